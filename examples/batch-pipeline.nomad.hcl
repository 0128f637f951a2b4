# A pipeline of three steps over one directory, /alloc/data: fetch data as an artifact (unpacked on the way), reduce it
# by rules that a template writes, then report. A step starts when the one before it has succeeded; if one fails, the run
# does. Run it: bivouac run -var data=https://example.com/sales.tar.gz examples/batch-pipeline.nomad.hcl
variable "data" {
  type        = string
  description = "Address of a tar.gz with sales.csv: a region and an amount on each line"
}

variable "least" {
  type        = number
  default     = 10
  description = "Smaller amounts do not count"
}

job "batch-pipeline" {
  type = "batch"

  group "pipeline" {
    restart {
      attempts = 0
    }

    task "fetch" {
      driver = "exec"

      lifecycle {
        hook = "prestart"
      }

      artifact {
        source      = var.data
        destination = "local/data"
      }

      config {
        command = "/bin/sh"
        args    = ["-c", "sort local/data/sales.csv > /alloc/data/sorted.csv"]
      }
    }

    task "reduce" {
      driver = "exec"

      template {
        destination = "local/rules.awk"
        data        = <<-AWK
          BEGIN { FS = "," }
          $2 >= {{ env "LEAST" }} { sum[$1] += $2 }
          END { for (region in sum) print region, sum[region] }
        AWK
      }

      env {
        LEAST = var.least
      }

      config {
        command = "/bin/sh"
        args    = ["-c", "awk -f local/rules.awk /alloc/data/sorted.csv > /alloc/data/sums"]
      }
    }

    task "report" {
      driver = "exec"

      lifecycle {
        hook = "poststop"
      }

      config {
        command = "/bin/sh"
        args    = ["-c", "sort -k2,2nr /alloc/data/sums"]
      }
    }
  }
}
