job "blocks-resources" {
  group "g" {
    task "a" {
      driver = "exec"
      resources {
        cpu        = 250
        memory     = 128
        memory_max = 256
      }
      config {
        command = "/bin/true"
      }
    }
    task "b" {
      driver = "exec"
      resources {
        cores  = 1
        memory = 64
      }
      config {
        command = "/bin/true"
      }
    }
  }
}
