# A cron job: each night it packs a named volume into another one, and keeps the newest archives.
# Make the volumes, then start the scheduler; `bivouac ps` shows when it is due, `bivouac stop nightly-backup` ends it.
#   bivouac volume create data backups
#   bivouac run -d --restart-on-boot examples/nightly-backup.nomad.hcl
variable "schedule" {
  type        = string
  default     = "30 3 * * *"
  description = "When, as in a crontab; seven fields begin with seconds"
}

variable "keep" {
  type        = number
  default     = 7
  description = "How many archives stay"
}

job "nightly-backup" {
  type = "batch"

  periodic {
    crons            = [var.schedule]
    time_zone        = "Local"
    prohibit_overlap = true
  }

  group "backup" {
    volume "data" {
      type      = "host"
      source    = "data"
      read_only = true
    }

    volume "backups" {
      type   = "host"
      source = "backups"
    }

    task "pack" {
      driver = "exec"

      config {
        command = "/bin/sh"
        args    = ["/local/backup.sh"]
      }

      template {
        destination = "local/backup.sh"
        data        = <<-EOT
          set -eu
          cd /backups
          name=data-$(date +%Y%m%d-%H%M%S).tar.gz
          tar -C /data -czf "$name.part" .
          mv "$name.part" "$name"
          ls -1t data-*.tar.gz | tail -n +$((KEEP + 1)) | xargs -r rm --
          echo "$name, $(ls data-*.tar.gz | wc -l) kept"
        EOT
      }

      env {
        KEEP = var.keep
      }

      volume_mount {
        volume      = "data"
        destination = "/data"
        read_only   = true
      }

      volume_mount {
        volume      = "backups"
        destination = "/backups"
      }

      resources {
        cpu    = 100
        memory = 64
      }
    }
  }
}
