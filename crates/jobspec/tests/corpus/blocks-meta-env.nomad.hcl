job "blocks-meta-env" {
  meta = {
    a = 1
    b = true
    c = "${"x"}y"
  }
  group "g" {
    meta {
      d-e = "dash"
    }
    task "t" {
      driver = "exec"
      user   = "www-data"
      meta {
        f = "${NOMAD_META_a}"
      }
      env {
        NUM   = 5
        BOOL  = false
        PORT  = "${NOMAD_PORT_http}"
        PATHS = "/a:${attr.unique.hostname}"
      }
      config {
        command = "/usr/bin/env"
      }
    }
  }
}
