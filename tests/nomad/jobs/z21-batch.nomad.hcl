# Every hook of a group's life leaves a mark; the main task waits for the poststart one.
job "z21-batch" {
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
      size = 60
    }
    task "init" {
      driver = "bivouac"
      lifecycle {
        hook    = "prestart"
        sidecar = false
      }
      config {
        command = "/bin/sh"
        args    = ["-c", "cd /alloc/data; touch init-ran init-running; sleep 0.3; rm init-running"]
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
    task "side" {
      driver = "bivouac"
      lifecycle {
        hook    = "prestart"
        sidecar = true
      }
      config {
        command = "/bin/sh"
        args    = ["-c", "cd /alloc/data; touch side-ran side-running; trap 'rm side-running; exit 0' TERM INT; while :; do sleep 0.1; done"]
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
    task "main" {
      driver = "bivouac"
      config {
        command = "/bin/sh"
        args    = ["-c", "cd /alloc/data; test -e init-ran && test ! -e init-running && touch main-ran main-running; n=0; until test -e poststart-ran || [ $n = 300 ]; do sleep 0.1; n=$((n+1)); done; rm main-running"]
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
    task "poststart" {
      driver = "bivouac"
      lifecycle {
        hook    = "poststart"
        sidecar = false
      }
      config {
        command = "/bin/sh"
        args    = ["-c", "cd /alloc/data; touch poststart-ran poststart-running; test -e main-ran; rm poststart-running"]
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
    task "poststop" {
      driver = "bivouac"
      lifecycle {
        hook    = "poststop"
        sidecar = false
      }
      config {
        command = "/bin/sh"
        args    = ["-c", "cd /alloc/data; touch poststop-ran poststop-running; test ! -e main-running && touch poststop-right; rm poststop-running"]
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
