# Volumes: a tmpfs of one MiB and, where the operator allows it, directories of the host.
# `bivouac run -v /srv/data:/data:ro -- ls /data` is the same for a single command.
job "volumes" {
  type = "batch"

  group "volumes" {
    task "volumes" {
      driver = "exec"

      config {
        command = "/bin/sh"
        args    = ["-c", "dd if=/dev/zero of=/scratch/full bs=64k count=100 2>&1 | grep -o 'No space left on device'"]

        mount {
          type   = "tmpfs"
          target = "/scratch"
          size   = "1m"
        }
      }
    }
  }
}
