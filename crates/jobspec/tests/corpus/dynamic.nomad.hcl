locals {
  services = {
    api = { port = 8080, args = ["--api"] }
    web = { port = 8081, args = [] }
  }
}
job "dynamic" {
  dynamic "group" {
    for_each = local.services
    iterator = svc
    labels   = [svc.key]
    content {
      network {
        dynamic "port" {
          for_each = [svc.value.port]
          labels   = ["p${port.value}"]
          content {
            static = port.value
          }
        }
      }
      task "run" {
        driver = "exec"
        config {
          command = "/bin/${svc.key}"
          args    = concat(svc.value.args, ["--port", svc.value.port])
        }
      }
    }
  }
}
