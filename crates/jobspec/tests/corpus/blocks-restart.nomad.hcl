job "blocks-restart" {
  group "g" {
    restart {
      attempts         = 5
      interval         = "10m"
      delay            = "20s"
      mode             = "delay"
      render_templates = true
    }
    task "t" {
      driver = "exec"
      config {
        command = "/bin/true"
      }
    }
    task "own" {
      driver = "exec"
      restart {
        attempts = 1
      }
      config {
        command = "/bin/false"
      }
    }
  }
}
