job "volumes" {
  group "g" {
    volume "data" {
      type      = "host"
      source    = "data"
      read_only = false
    }
    ephemeral_disk {
      size   = 500
      sticky = true
    }
    task "t" {
      driver = "exec"
      config {
        command = "/bin/true"
        mount {
          type   = "bind"
          source = "/srv"
          target = "/srv"
        }
        mount {
          type   = "tmpfs"
          target = "/scratch"
          tmpfs_options {
            size = 1048576
          }
        }
      }
      volume_mount {
        volume           = "data"
        destination      = "/data"
        propagation_mode = "host-to-task"
      }
    }
  }
}
