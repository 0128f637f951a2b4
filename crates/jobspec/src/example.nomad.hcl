# A job file: what to run, and the walls around it. `bivouac run FILE` runs it, `bivouac validate FILE` checks it.
# The language is that of HashiCorp Nomad; lines that begin with `#` are comments.

# Values that may be given from outside: -var greeting=..., NOMAD_VAR_greeting, or a file with -var-file.
variable "greeting" {
  type    = string
  default = "hello"
}

job "example" {
  # "service" is started again whenever it ends, "batch" runs to its end.
  type = "batch"

  # Tasks of one group share a network and the directory /alloc.
  group "main" {
    count = 1

    # network {
    #   mode = "bridge"              # host (the default), none, or bridge
    #   port "http" { to = 8080 }    # a free port of the host that leads to 8080 inside
    # }

    # restart {
    #   attempts = 3
    #   delay    = "15s"
    # }

    task "greet" {
      driver = "exec"

      config {
        command = "/bin/sh"
        args    = ["-c", "echo ${var.greeting} from $(hostname); ls /; id"]

        # pids_limit = 100           # every option: `bivouac help options` or the reference in the book
      }

      # An empty user is `nobody`.
      # user = "www-data"

      env {
        LANG = "C.UTF-8"
      }

      # template {
      #   data        = "listen = {{ env \"NOMAD_PORT_http\" }}\n"
      #   destination = "local/app.conf"
      # }

      # volume_mount {
      #   volume      = "data"
      #   destination = "/srv"
      # }

      resources {
        cpu    = 100 # MHz, a weight
        memory = 64  # MB, a limit
      }

      kill_timeout = "5s"
    }
  }
}
