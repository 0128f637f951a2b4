job "lifecycle" {
  group "g" {
    restart {
      attempts = 1
      interval = "1m"
      delay    = "5s"
      mode     = "delay"
    }
    task "init" {
      driver = "exec"
      lifecycle {
        hook = "prestart"
      }
      config {
        command = "/bin/true"
      }
    }
    task "logger" {
      driver = "exec"
      lifecycle {
        hook    = "poststart"
        sidecar = true
      }
      config {
        command = "/bin/sleep"
        args    = ["1000"]
      }
    }
    task "main" {
      driver = "exec"
      leader = true
      config {
        command = "/bin/sleep"
        args    = ["10"]
      }
      restart {
        attempts = 0
        mode     = "fail"
      }
    }
    task "clean" {
      driver = "exec"
      lifecycle {
        hook = "poststop"
      }
      config {
        command = "/bin/true"
      }
    }
  }
}
