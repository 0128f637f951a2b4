job "runtime-references" {
  group "g" {
    network {
      port "p" {}
    }
    task "t" {
      driver = "exec"
      config {
        command = "${NOMAD_TASK_DIR}/bin"
        args = [
          "${NOMAD_ADDR_p}",
          "${env["NOMAD_PORT_p"]}",
          "${node.unique.id}-${meta.rack}",
          "$${HOME}",
          "pre-${attr.cpu.arch}-post",
        ]
      }
      env {
        HERE = "${node.datacenter}/${NOMAD_ALLOC_NAME}"
      }
    }
  }
}
