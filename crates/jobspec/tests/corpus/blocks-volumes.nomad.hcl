job "blocks-volumes" {
  group "g" {
    count = 2
    volume "data" {
      type      = "host"
      source    = "srv"
      read_only = true
      per_alloc = true
    }
    task "t" {
      driver = "exec"
      volume_mount {
        volume           = "data"
        destination      = "/data"
        propagation_mode = "host-to-task"
      }
      config {
        command = "/bin/true"
      }
    }
  }
}
