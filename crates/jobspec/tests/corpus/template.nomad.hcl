locals {
  name = "app"
}
job "template" {
  group "g" {
    task "t" {
      driver = "exec"
      config {
        command = "local/run.sh"
      }
      template {
        data = <<-EOF2
          #!/bin/sh
          echo "${local.name} {{ env "NOMAD_ALLOC_ID" }}"
            indented ${node.unique.name}
        EOF2
        destination = "local/run.sh"
        perms       = "755"
      }
      template {
        data          = "A=1"
        destination   = "secrets/env"
        env           = true
        change_mode   = "signal"
        change_signal = "SIGHUP"
      }
      template {
        data        = "x"
        destination = "local/x"
        change_mode = "script"
        change_script {
          command = "/bin/reload"
          args    = ["-f"]
          timeout = "10s"
        }
      }
    }
  }
}
