job "actions" {
  group "g" {
    task "t" {
      driver = "exec"
      action "dump" {
        command = "/bin/ps"
        args    = ["aux"]
      }
      shutdown_delay = "3s"
      config {
        command = "/bin/sleep"
        args    = ["9"]
      }
    }
  }
}
