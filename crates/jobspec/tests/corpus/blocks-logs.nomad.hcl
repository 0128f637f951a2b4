job "blocks-logs" {
  group "g" {
    ephemeral_disk {
      size   = 500
      sticky = true
    }
    task "a" {
      driver = "exec"
      logs {
        max_files     = 3
        max_file_size = 5
      }
      config {
        command = "/bin/true"
      }
    }
    task "b" {
      driver = "exec"
      logs {
        disabled = true
      }
      config {
        command = "/bin/true"
      }
    }
  }
}
