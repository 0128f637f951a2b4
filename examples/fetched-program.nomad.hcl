# A program that this machine does not have: fetched, compared with its checksum, unpacked and run. A
# file that is not what was expected never appears in the task.
# Run it: bivouac run -var address=https://example.com/greet.tar.gz -var checksum=sha256:... examples/fetched-program.nomad.hcl
variable "address" {
  type        = string
  description = "A tar.gz with the program bin/greet"
}

variable "checksum" {
  type        = string
  description = "sha256:... of the archive"
}

job "fetched-program" {
  type = "batch"

  group "program" {
    task "greet" {
      driver = "exec"

      artifact {
        source      = var.address
        destination = "local/greet"

        options {
          checksum = var.checksum
        }
      }

      config {
        command = "local/greet/bin/greet"
        args    = ["from", "afar"]
      }

      resources {
        memory = 64
      }
    }
  }
}
