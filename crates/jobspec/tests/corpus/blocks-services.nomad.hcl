job "blocks-services" {
  group "g" {
    network {
      port "http" {}
    }
    service {
      name     = "web-${NOMAD_ALLOC_INDEX}"
      provider = "nomad"
      port     = "http"
      tags     = ["a", "b"]
      meta {
        k = "v"
      }
      check {
        type     = "http"
        path     = "/health"
        interval = "10s"
        timeout  = "2s"
        header {
          X = ["1", "2"]
        }
        check_restart {
          limit = 3
          grace = "90s"
        }
      }
      check {
        type     = "tcp"
        interval = "5s"
        timeout  = "1s"
      }
    }
    task "t" {
      driver = "exec"
      config {
        command = "/bin/true"
      }
    }
  }
}
