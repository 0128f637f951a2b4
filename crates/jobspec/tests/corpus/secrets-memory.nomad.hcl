job "secrets-memory" {
  group "g" {
    task "t" {
      driver = "exec"
      config {
        command = "/bin/true"
      }
      resources {
        memory     = 100
        memory_max = -1
        secrets    = 8
      }
      identity {
        env  = true
        file = true
      }
    }
  }
}
