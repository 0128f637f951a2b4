# A service with a template, a signal to stop on, and the options that Bivouac adds.
job "service" {
  type = "service"
  group "main" {
    ephemeral_disk {
      size = 20
    }
    task "main" {
      driver      = "bivouac"
      kill_signal = "SIGTERM"
      template {
        data        = "greeting = good day from {{ env \"NOMAD_TASK_NAME\" }}\n"
        destination = "etc/app.conf"
      }
      config {
        command    = "/bin/sh"
        args       = ["-c", "cat /etc/app.conf; exec sleep 1000"]
        init       = true
        hostname   = "app"
        pids_limit = 50
        ulimit = {
          nofile = "256:512"
        }
      }
      resources {
        cpu    = 50
        memory = 32
      }
      logs {
        max_files     = 1
        max_file_size = 1
      }
    }
  }
}
