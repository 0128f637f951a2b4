# A task that goes on until it is stopped, and says when it hears SIGTERM.
job "sleep" {
  type = "service"
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
      driver      = "fake"
      kill_signal = "SIGTERM"
      config {
        command = "/bin/sh"
        args    = ["-c", "trap 'echo heard; exit 5' TERM; trap 'echo usr1' USR1; while true; do sleep 0.1; done"]
      }
      resources {
        cpu    = 20
        memory = 16
      }
      logs {
        max_files     = 1
        max_file_size = 1
      }
    }
  }
}
