# Blocks that no other file of the corpus has: some that a cluster needs, some that need hardware.
job "blocks-rest" {
  type = "service"

  ui {
    description = "All that is left"
    link {
      label = "documentation"
      url   = "https://example.com/"
    }
  }

  multiregion {
    strategy {
      max_parallel = 1
      on_failure   = "fail_all"
    }
    region "west" {
      count       = 1
      datacenters = ["west-1"]
    }
  }

  group "g" {
    scaling {
      enabled = true
      min     = 1
      max     = 4
      policy {}
    }

    disconnect {
      lost_after = "6h"
      replace    = false
    }

    volume "data" {
      type            = "host"
      source          = "data"
      attachment_mode = "file-system"
      access_mode     = "single-node-writer"
      mount_options {
        fs_type     = "ext4"
        mount_flags = ["noatime"]
      }
    }

    task "t" {
      driver = "exec"

      schedule {
        cron {
          start    = "0 8 * * * *"
          end      = "0 17"
          timezone = "Europe/Berlin"
        }
      }

      secret "db" {
        provider = "file"
        path     = "/etc/app/db.env"
        config {
          format = "env"
        }
      }

      service {
        name     = "weighty"
        provider = "consul"
        weights {
          passing = 5
          warning = 1
        }
      }

      template {
        data        = "x"
        destination = "local/x"
        wait {
          min = "2s"
          max = "10s"
        }
      }

      resources {
        cores  = 2
        memory = 64
        numa {
          affinity = "prefer"
        }
        device "nvidia/gpu" {
          count = 1
          constraint {
            attribute = "${device.attr.memory}"
            operator  = ">="
            value     = "2 GiB"
          }
          affinity {
            attribute = "${device.attr.memory}"
            operator  = ">="
            value     = "4 GiB"
            weight    = 75
          }
        }
      }

      config {
        command = "/bin/true"
      }
    }
  }
}
