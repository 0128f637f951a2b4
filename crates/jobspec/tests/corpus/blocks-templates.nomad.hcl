job "blocks-templates" {
  group "g" {
    task "t" {
      driver = "exec"
      template {
        data            = "{{ env \"NOMAD_TASK_NAME\" }}"
        destination     = "local/a"
        perms           = "600"
        change_mode     = "signal"
        change_signal   = "SIGHUP"
        left_delimiter  = "[["
        right_delimiter = "]]"
      }
      template {
        source      = "local/tpl"
        destination = "${NOMAD_SECRETS_DIR}/env"
        env         = true
        change_mode = "noop"
      }
      template {
        data        = <<-EOH
          #!/bin/sh
          echo {{ key }} $${literal} ${NOMAD_ALLOC_ID}
        EOH
        destination = "local/c.sh"
        change_mode = "script"
        change_script {
          command       = "/bin/sh"
          args          = ["-c", "true"]
          timeout       = "20s"
          fail_on_error = true
        }
      }
      config {
        command = "local/c.sh"
      }
    }
  }
}
