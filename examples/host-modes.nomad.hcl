# Host modes: this task shares process numbers and IPC with the host, so it is not process 1.
job "host-modes" {
  type = "batch"

  group "host-modes" {
    task "host-modes" {
      driver = "exec"

      config {
        command  = "/bin/sh"
        args     = ["-c", "test $$ -ne 1 && echo not process 1"]
        pid_mode = "host"
        ipc_mode = "host"
      }
    }
  }
}
