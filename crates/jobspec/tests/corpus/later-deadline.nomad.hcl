job "later-deadline" {
  type = "batch"
  group "g" {
    max_run_duration = "1h"
    task "t" {
      driver = "exec"
      config {
        command = "/bin/sleep"
        args    = ["9999"]
      }
    }
  }
}
