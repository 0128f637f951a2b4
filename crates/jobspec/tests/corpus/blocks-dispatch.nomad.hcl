job "blocks-dispatch" {
  type = "batch"
  parameterized {
    payload       = "required"
    meta_required = ["who"]
    meta_optional = ["greeting"]
  }
  group "g" {
    task "t" {
      driver = "exec"
      dispatch_payload {
        file = "in/payload"
      }
      config {
        command = "/bin/cat"
        args    = ["local/in/payload", "${NOMAD_META_who}"]
      }
    }
  }
}
