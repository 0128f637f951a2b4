job "cluster" {
  priority = 80
  update {
    max_parallel = 1
  }
  spread {
    attribute = "${node.datacenter}"
  }
  group "g" {
    count = 3
    affinity {
      attribute = "${node.class}"
      value     = "big"
    }
    reschedule {
      attempts = 1
    }
    migrate {
      max_parallel = 1
    }
    constraint {
      distinct_hosts = true
    }
    task "t" {
      driver = "exec"
      constraint {
        attribute = "${attr.driver.exec}"
        value     = "1"
      }
      constraint {
        attribute = "${attr.kernel.version}"
        operator  = "version"
        value     = ">= 5.12"
      }
      constraint {
        attribute = attr.cpu.arch
        regexp    = "^amd"
      }
      config {
        command = "/bin/true"
      }
    }
  }
}
