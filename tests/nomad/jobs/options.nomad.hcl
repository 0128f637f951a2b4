# Every shape in which a task's options are written, one of them as an object and one as blocks.
job "options" {
  type = "batch"
  group "main" {
    restart {
      attempts = 0
      mode     = "fail"
    }
    reschedule {
      attempts  = 0
      unlimited = false
    }
    ephemeral_disk {
      size = 20
    }
    task "main" {
      driver = "fake"
      config {
        command    = "/bin/true"
        args       = ["a b", "${NOMAD_TASK_NAME}"]
        pids_limit = 100
        shm_size   = "32m"
        init       = true
        cap_add    = ["net_admin"]
        ulimit = {
          nofile = "1024:2048"
          core   = 0
        }
        mount {
          source   = "/srv"
          target   = "/srv"
          readonly = true
        }
        mount {
          type   = "tmpfs"
          target = "/scratch"
          size   = 1048576
        }
        devices {
          host_path = "/dev/fuse"
        }
        dns {
          servers = ["192.0.2.1"]
        }
      }
      resources {
        cpu    = 20
        memory = 16
      }
      logs {
        max_files     = 1
        max_file_size = 1
      }
    }
  }
}
