# A web server with a network of its own: port 8081 of the host leads to port 80 inside, a template writes its page, and
# a check restarts it when it does not answer. Needs the CNI plugins (Debian: containernetworking-plugins, iptables).
# Run it with -d, then: curl http://127.0.0.1:8081/
job "bridge-web" {
  type = "service"

  group "web" {
    network {
      mode = "bridge"
      port "http" {
        static = 8081
        to     = 80
      }
    }

    task "server" {
      driver = "exec"

      template {
        destination = "local/www/index.html"
        data        = "served from {{ env \"NOMAD_ALLOC_IP_http\" }} port {{ env \"NOMAD_PORT_http\" }}\n"
      }

      config {
        command      = "python3"
        args         = ["-um", "http.server", "--directory", "/local/www", "${NOMAD_PORT_http}"]
        init         = true
        no_new_privs = true
      }

      service {
        name     = "web"
        port     = "http"
        provider = "nomad"

        check {
          type     = "http"
          path     = "/index.html"
          interval = "10s"
          timeout  = "2s"

          check_restart {
            limit = 3
            grace = "10s"
          }
        }
      }

      resources {
        memory = 64
      }
    }
  }
}
