# A job as it was written for the built-in driver, unchanged: with override.hcl it runs in Bivouac.
job "exec" {
  type = "batch"
  group "main" {
    ephemeral_disk {
      size = 20
    }
    task "main" {
      driver = "exec"
      config {
        command = "/bin/date"
      }
      resources {
        cpu    = 50
        memory = 32
      }
      logs {
        max_files     = 1
        max_file_size = 1
      }
    }
  }
}
