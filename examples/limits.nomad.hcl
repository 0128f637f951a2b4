# Limits: memory, processes, open files. The task prints what it may use; a fork bomb in it would end at 32 processes.
job "limits" {
  type = "batch"

  group "limits" {
    task "limits" {
      driver = "exec"

      config {
        command    = "/bin/sh"
        args       = ["-c", "echo open files: $(ulimit -n); echo memory in MB: $NOMAD_MEMORY_LIMIT"]
        pids_limit = 32

        ulimit {
          nofile = "256:512"
        }
      }

      resources {
        cpu    = 50
        memory = 16
      }
    }
  }
}
