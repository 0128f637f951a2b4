# Two tasks in a bridge network: one serves a page, the other fetches it over the network that they share.
job "z25" {
  type = "service"
  group "main" {
    network {
      mode = "bridge"
      port "http" {
        to = 8080
      }
      dns {
        servers  = ["192.0.2.53"]
        searches = ["bridge.test"]
      }
    }
    restart {
      attempts = 0
      mode     = "fail"
    }
    reschedule {
      attempts  = 0
      unlimited = false
    }
    ephemeral_disk {
      size = 40
    }
    task "main" {
      driver = "bivouac"
      config {
        command = "/bin/sh"
        args = ["-c", <<EOS
echo interface=$NOMAD_ALLOC_INTERFACE_http
echo ip=$NOMAD_ALLOC_IP_http
echo port=$NOMAD_ALLOC_PORT_http
echo addr=$NOMAD_ALLOC_ADDR_http
echo host port=$NOMAD_HOST_PORT_http
cat /proc/net/dev /etc/resolv.conf
mkdir -p /local/www && echo served > /local/www/page
echo END
exec busybox httpd -f -p 8080 -h /local/www
EOS
        ]
      }
      kill_timeout = "1s"
      resources {
        cpu    = 20
        memory = 32
      }
      logs {
        max_files     = 1
        max_file_size = 1
      }
    }
    task "other" {
      driver = "bivouac"
      config {
        command = "/bin/sh"
        args = ["-c", "until busybox wget -q -O /alloc/data/fetched http://127.0.0.1:8080/page; do sleep 0.2; done; exec sleep 600"]
      }
      kill_timeout = "1s"
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
