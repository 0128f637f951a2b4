job "artifact" {
  type = "batch"
  group "g" {
    task "t" {
      driver = "exec"
      artifact {
        source      = "https://example.test/${attr.kernel.name}/tool.tar.gz"
        destination = "local/tool"
        options {
          checksum = "md5:df6a4178aec9fbdc1d6d7e3634d1bc33"
        }
        headers {
          Accept = "*/*"
        }
      }
      artifact {
        source = "https://example.test/one"
        mode   = "file"
      }
      config {
        command = "local/tool/run"
      }
    }
  }
}
