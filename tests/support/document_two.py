"""What document 2 shows of the configuration of an instance, as it stands there."""

EXAMPLE = """\
# ~/.ai-sessions/configs/{instance_id}.yml
instance:
  id: "project-a-claude"
  project: "/Users/dev/project-a"
  mode: "claude"

resources:
  memory:
    limit: "1Gi"
    warning_threshold: "800Mi"
    critical_threshold: "950Mi"
  cpu:
    limit: "500m"
    warning_threshold: "400m"
    critical_threshold: "480m"

health:
  check_interval: "30s"
  timeout: "5s"
  max_retries: 3
  retry_delay: "10s"

networking:
  preferred_port: 9001
  port_range: [9000, 9999]

ai_config:
  claude:
    model: "claude-3-5-sonnet-20241022"
    max_tokens: 4096
    temperature: 0.7
  gemini:
    model: "gemini-2.5-pro"
    max_output_tokens: 8192
    temperature: 0.9
"""
