job "blocks-system" {
  type     = "system"
  priority = 80
  region   = "eu"
  group "g" {
    task "t" {
      driver = "exec"
      config {
        command = "/bin/true"
      }
    }
  }
}
