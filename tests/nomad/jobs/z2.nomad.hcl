# One task packs a script, another serves it, the third fetches and runs it: all over the host's network.
job "z2" {
  type = "batch"
  group "main" {
    network {
      mode = "host"
      port "http" {}
    }
    restart {
      attempts = 5
      delay    = "1s"
      interval = "5m"
      mode     = "fail"
    }
    reschedule {
      attempts  = 0
      unlimited = false
    }
    ephemeral_disk {
      size = 60
    }
    task "pack" {
      driver = "bivouac"
      lifecycle {
        hook = "prestart"
      }
      config {
        command = "/bin/sh"
        args = ["-c", <<EOS
mkdir -p /alloc/data/www && cd /local
printf '#!/bin/sh\necho fetched and run\n' > script.sh && chmod 755 script.sh
tar czf /alloc/data/www/pack.tar.gz script.sh
EOS
        ]
      }
      resources {
        cpu    = 20
        memory = 32
      }
      logs {
        max_files     = 1
        max_file_size = 1
      }
    }
    task "serve" {
      driver = "bivouac"
      lifecycle {
        hook    = "prestart"
        sidecar = true
      }
      config {
        command = "busybox"
        args    = ["httpd", "-f", "-p", "127.0.0.1:${NOMAD_PORT_http}", "-h", "/alloc/data/www"]
      }
      resources {
        cpu    = 20
        memory = 32
      }
      logs {
        max_files     = 1
        max_file_size = 1
      }
    }
    task "main" {
      driver = "bivouac"
      artifact {
        source      = "http://127.0.0.1:${NOMAD_PORT_http}/pack.tar.gz"
        destination = "local/"
      }
      config {
        command = "local/script.sh"
      }
      resources {
        cpu    = 20
        memory = 32
      }
      logs {
        max_files     = 1
        max_file_size = 1
      }
    }
  }
}
