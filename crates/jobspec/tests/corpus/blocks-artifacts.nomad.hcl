variable "version" {
  default = "1.2.3"
}
locals {
  base = "https://example.com/releases"
}
job "blocks-artifacts" {
  group "g" {
    task "t" {
      driver = "exec"
      artifact {
        source      = "${local.base}/app-${var.version}.tar.gz"
        destination = "local/app"
        options {
          checksum = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
          archive  = "false"
        }
        headers {
          Authorization = "Bearer ${NOMAD_META_token}"
        }
      }
      artifact {
        source   = "git::https://example.com/repo.git//sub"
        mode     = "dir"
        insecure = true
        chown    = true
        options {
          ref   = "main"
          depth = 1
        }
      }
      config {
        command = "local/app/bin"
      }
    }
  }
}
