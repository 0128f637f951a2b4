# A real server from this host's own programs: Python's web server on a port given by a variable.
# Run it, then: curl http://127.0.0.1:8080/hello.txt
variable "port" {
  type        = number
  default     = 8080
  description = "Where the server listens"
}

variable "greeting" {
  type    = string
  default = "hello from a bivouac"
}

job "web" {
  type = "service"

  group "web" {
    network {
      mode = "host"
      port "http" {
        static = var.port
      }
    }

    task "server" {
      driver       = "exec"
      kill_timeout = "2s"

      config {
        command    = "/bin/sh"
        args       = ["-c", "echo \"$GREETING\" > /local/hello.txt && exec python3 -m http.server --bind 127.0.0.1 --directory /local $NOMAD_PORT_http"]
        init       = true
        pids_limit = 64
      }

      env {
        GREETING = var.greeting
      }

      resources {
        cpu    = 200
        memory = 128
      }
    }
  }
}
