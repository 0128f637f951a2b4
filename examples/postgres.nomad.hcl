# PostgreSQL from this host's packages, in a sandbox: a named volume keeps the data, a prestart task makes the cluster
# once. First: bivouac volume create pgdata
variable "version" {
  type        = string
  default     = "15"
  description = "The major version that is installed here"
}

locals {
  bin = "/usr/lib/postgresql/${var.version}/bin"
}

job "postgres" {
  type = "service"

  group "db" {
    network {
      mode = "host"
      port "sql" {
        static = 15432
      }
    }

    volume "data" {
      type   = "host"
      source = "pgdata"
    }

    task "initdb" {
      driver = "exec"
      user   = "postgres"

      lifecycle {
        hook = "prestart"
      }

      volume_mount {
        volume      = "data"
        destination = "/data"
      }

      config {
        command = "/bin/sh"
        args    = ["-c", "[ -s /data/db/PG_VERSION ] || ${local.bin}/initdb -D /data/db --auth=trust --username=postgres"]
      }
    }

    task "server" {
      driver       = "exec"
      user         = "postgres"
      kill_signal  = "SIGINT"
      kill_timeout = "20s"

      volume_mount {
        volume      = "data"
        destination = "/data"
      }

      config {
        command  = "${local.bin}/postgres"
        args     = ["-D", "/data/db", "-c", "listen_addresses=127.0.0.1", "-p", "${NOMAD_PORT_sql}", "-k", "/tmp"]
        shm_size = "128m"
      }

      resources {
        cpu    = 500
        memory = 512
      }
    }
  }
}
