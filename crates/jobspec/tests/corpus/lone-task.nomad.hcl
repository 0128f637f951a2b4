job "lone-task" {
  type = "sysbatch"
  task "only" {
    driver = "exec"
    config {
      command = "/bin/true"
    }
  }
}
