# An application in two parts: a web server that counts its visitors, and the store that keeps the count. Each has a
# sandbox of its own; they share a network behind a bridge, and only the web server's port leads outside.
# Needs the CNI plugins (Debian: containernetworking-plugins, iptables). Run it with -d, then: curl http://127.0.0.1:8090/
job "two-services" {
  type = "service"

  group "app" {
    network {
      mode = "bridge"
      port "web" {
        static = 8090
        to     = 80
      }
    }

    restart {
      attempts = 10
      interval = "5m"
      delay    = "1s"
    }

    task "store" {
      driver = "exec"

      # It must answer before the web server starts.
      lifecycle {
        hook    = "prestart"
        sidecar = true
      }

      config {
        command = "python3"
        init    = true
        args = ["-uc", <<-PYTHON
          import os, socketserver
          path = "/alloc/data/visitors"
          class Count(socketserver.StreamRequestHandler):
              def handle(self):
                  count = int(open(path).read()) + 1 if os.path.exists(path) else 1
                  with open(path + ".new", "w") as file:
                      file.write(str(count))
                  os.rename(path + ".new", path)
                  self.wfile.write(b"%d\n" % count)
          socketserver.TCPServer.allow_reuse_address = True
          socketserver.TCPServer(("127.0.0.1", 7000), Count).serve_forever()
        PYTHON
        ]
      }

      resources {
        memory = 64
      }
    }

    task "web" {
      driver = "exec"

      config {
        command       = "python3"
        init          = true
        no_new_privs  = true
        readonly_root = true
        args = ["-uc", <<-PYTHON
          import http.server, os, socket
          class Visit(http.server.BaseHTTPRequestHandler):
              def do_GET(self):
                  try:
                      with socket.create_connection(("127.0.0.1", 7000), timeout=5) as store:
                          count = store.makefile().readline().strip()
                      status, text = 200, "visitor %s\n" % count
                  except OSError as error:
                      status, text = 503, "the store does not answer: %s\n" % error
                  self.send_response(status)
                  self.end_headers()
                  self.wfile.write(text.encode())
          http.server.ThreadingHTTPServer(("", int(os.environ["NOMAD_PORT_web"])), Visit).serve_forever()
        PYTHON
        ]
      }

      resources {
        memory = 64
      }
    }
  }
}
