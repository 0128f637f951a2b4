# The smallest job: one command of the host, isolated, once. Shows its own view of the machine.
job "hello" {
  type = "batch"

  group "hello" {
    task "hello" {
      driver = "exec"

      config {
        command = "/bin/sh"
        args    = ["-c", "echo \"hello from pid $$ as $(id -un) in $(pwd)\"; ls /"]
      }

      resources {
        cpu    = 100
        memory = 32
      }

      logs {
        max_files     = 1
        max_file_size = 1
      }
    }
  }
}
