# A job as it was written for the built-in driver: whoever owns the name `exec` runs it.
job "exec" {
  type = "service"
  group "main" {
    ephemeral_disk {
      size = 20
    }
    task "main" {
      driver = "exec"
      config {
        command = "/bin/busybox"
        args    = ["sleep", "1000"]
      }
      kill_timeout = "1s"
      resources {
        cpu    = 20
        memory = 32
      }
      logs {
        max_files     = 1
        max_file_size = 1
      }
    }
  }
}
