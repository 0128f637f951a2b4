job "blocks-lifecycle" {
  type = "batch"
  group "g" {
    task "init" {
      driver = "exec"
      lifecycle {
        hook = "prestart"
      }
      config {
        command = "/bin/true"
      }
    }
    task "side" {
      driver = "exec"
      lifecycle {
        hook    = "poststart"
        sidecar = true
      }
      config {
        command = "/bin/true"
      }
    }
    task "after" {
      driver = "exec"
      lifecycle {
        hook = "poststop"
      }
      config {
        command = "/bin/true"
      }
    }
    task "main" {
      driver = "exec"
      leader         = true
      kill_signal    = "SIGTERM"
      kill_timeout   = "1m30s"
      shutdown_delay = "2s"
      config {
        command = "/bin/true"
      }
    }
  }
}
