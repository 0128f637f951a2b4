variable "port" {
  type    = number
  default = 8080
}
variable "from_env" {
  default = "none"
}
job "web" {
  datacenters = ["dc1"]
  meta {
    owner = var.from_env
  }
  group "web" {
    network {
      port "http" {
        static = var.port
      }
    }
    service {
      name     = "web"
      port     = "http"
      provider = "nomad"
      check {
        type     = "http"
        path     = "/health"
        interval = "10s"
        timeout  = "2s"
        check_restart {
          limit = 3
          grace = "30s"
        }
      }
    }
    task "server" {
      driver = "exec"
      user   = "nobody"
      config {
        command = "python3"
        args    = ["-m", "http.server", "${NOMAD_PORT_http}"]
      }
      env {
        LISTEN = "0.0.0.0:${NOMAD_PORT_http}"
        N      = var.port + 1
      }
      resources {
        cpu    = 200
        memory = 128
      }
    }
  }
}
