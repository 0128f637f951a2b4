locals {
  ports = { http = 80, metrics = 9100 }
}
job "dynamic-ports" {
  group "g" {
    network {
      dynamic "port" {
        for_each = local.ports
        labels   = [port.key]
        content {
          to = port.value
        }
      }
    }
    dynamic "service" {
      for_each = local.ports
      iterator = each
      content {
        name     = each.key
        provider = "nomad"
        port     = each.key
      }
    }
    task "t" {
      driver = "exec"
      config {
        command = "/bin/true"
      }
    }
  }
}
