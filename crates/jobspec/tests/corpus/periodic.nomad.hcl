job "periodic" {
  type = "batch"
  periodic {
    crons            = ["*/5 * * * *", "@daily"]
    prohibit_overlap = true
    time_zone        = "Europe/Berlin"
  }
  group "g" {
    task "t" {
      driver = "exec"
      config {
        command = "/bin/date"
      }
    }
  }
}
