job "blocks-constraints" {
  constraint {
    attribute = "${attr.kernel.name}"
    value     = "linux"
  }
  group "g" {
    constraint {
      attribute = "${attr.cpu.arch}"
      operator  = "regexp"
      value     = "^(amd64|arm64)$"
    }
    task "t" {
      driver = "exec"
      constraint {
        attribute = "${attr.driver.exec}"
        operator  = ">="
        value     = "1"
      }
      constraint {
        attribute = "${attr.kernel.version}"
        operator  = "version"
        value     = ">= 5.14"
      }
      config {
        command = "/bin/true"
      }
    }
  }
}
