# A task in a real sandbox: says what it sees, then goes on until it is stopped.
job "real" {
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
      driver      = "bivouac"
      kill_signal = "SIGTERM"
      config {
        command = "/bin/sh"
        args    = ["-c", "echo pid $$ $NOMAD_TASK_DIR; cat /proc/self/cgroup; id -un; trap 'echo heard; exit 5' TERM; while true; do sleep 0.1; done"]
      }
      resources {
        cpu    = 20
        memory = 64
      }
      logs {
        max_files     = 1
        max_file_size = 1
      }
    }
  }
}
