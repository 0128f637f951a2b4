# A short task that prints where it is, for the face alone.
job "batch" {
  type = "batch"
  group "main" {
    restart {
      attempts = 0
      mode     = "fail"
    }
    reschedule {
      attempts  = 0
      unlimited = false
    }
    ephemeral_disk {
      size = 20
    }
    task "main" {
      driver = "fake"
      config {
        command = "/bin/sh"
        args    = ["-c", "echo out $GREETING; echo err >&2; exit 7"]
        ulimit {
          nofile = "1024"
        }
        limits {
          depth = 3
        }
        mount {
          target = "/a"
          share  = 0.1
        }
        mount {
          target = "/b"
        }
      }
      env {
        GREETING = "hello"
        LATER    = "/opt/bin:${PATH}"
      }
      resources {
        cpu        = 20
        memory     = 16
        memory_max = 32
      }
      logs {
        max_files     = 1
        max_file_size = 1
      }
    }
  }
}
