# A script from a template, run through the shell, says which process it is.
job "z5" {
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
      driver = "bivouac"
      template {
        data        = "#!/bin/bash\necho my pid is $BASHPID\n"
        destination = "local/pid.sh"
        perms       = "755"
      }
      config {
        command  = "bash"
        args     = ["local/pid.sh"]
        pid_mode = "private"
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
