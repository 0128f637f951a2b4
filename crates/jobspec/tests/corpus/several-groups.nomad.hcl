job "several-groups" {
  group "a" {
    count = 2
    task "t" {
      driver = "exec"
      config {
        command = "/bin/true"
      }
    }
  }
  group "b" {
    task "t" {
      driver = "exec"
      config {
        command = "/bin/true"
      }
    }
    task "u" {
      driver = "exec"
      config {
        command = "/bin/true"
        args    = []
      }
    }
  }
}
