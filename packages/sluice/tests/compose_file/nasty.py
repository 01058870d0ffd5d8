"""A Compose file with nearly everything that files of real life have, the files it refers to, and its variables."""

from __future__ import annotations

from sluice.model.spec import ComposeService, ServiceMode

SENTINEL = "s3ntinel-value"
VALUES = {
    "DB_PASSWORD": f"{SENTINEL}-password",
    "SECRET": f"{SENTINEL}-secret",
    "API_PORT": "8123",
    "TAG": f"{SENTINEL}-tag",
    "REPLICAS": "2",
    "DATA_DIR": f"/srv/{SENTINEL}",
}
NASTY = """
name: nasty
x-logging: &log
  driver: json-file
  options: {max-size: 10m}
x-env: &env
  DB_URL: "postgres://u:${DB_PASSWORD:?say it}@shop-db/x"
  FROM_HOST:
services:
  api:
    build: {context: ., args: [BASE, "S=${SECRET}"]}
    image: "${REGISTRY:-local}/api:${TAG:-latest}"
    hostname: api-host
    ports:
      - "${API_PORT:-8080}:8080"
      - "127.0.0.1:9000-9002:9000-9002/udp"
      - "[::1]:6001:6001"
      - "3000"
      - {target: 80, published: "${WEB:-8088}", protocol: tcp}
    environment: *env
    env_file: [app.env, .env, {path: gone.env, required: false}]
    logging: *log
    labels: ["team=a=b", "rule=Host(`x`)"]
    depends_on: {db: {condition: service_healthy, restart: true}, init: {condition: service_completed_successfully}}
    volumes:
      - ./nginx.conf:/etc/nginx.conf:ro
      - ./uploads:/uploads:ro
      - "${DATA_DIR:-./dd}:/dd:ro"
      - "${OTHER:-./other}:/other:ro"
      - "${PWD}/here:/here:ro"
      - {type: bind, source: "${DATA_DIR:-./dd}", target: /long, read_only: true}
      - /anonymous
      - "${NAMED:-cache}:/cache:ro"
      - {type: tmpfs, target: /t, tmpfs: {size: 1000}}
    deploy: {replicas: "${REPLICAS:-1}", resources: {limits: {cpus: "0.5", memory: 64M}}}
    ulimits: {nofile: {soft: 100, hard: 200}}
    tmpfs: /run
    secrets: [pw, {source: fromenv, target: /x}]
    configs: [{source: conf, target: /conf}]
    links: [worker, "worker:jobs"]
    networks: {front: {aliases: [www], ipv4_address: 10.5.0.2}, edge: {aliases: [shop]}}
    command: ["sh", "-c", "echo $$HOME ${SECRET}"]
    x-note: kept
  worker:
    extends: {file: lib/common.yml, service: basis}
    restart: on-failure
    container_name: the-worker
  init:
    image: busybox
    command: "true"
  db:
    image: "postgres:${PG:-16}"
    container_name: shop-db
    ports: ["5432:5432"]
    volumes: [dbdata:/var/lib/postgresql/data, "fixed:/f", "old:/old"]
    healthcheck: {test: [CMD-SHELL, pg_isready], interval: 1s}
    networks: {back: {aliases: [database]}}
  turn:
    image: coturn
    network_mode: host
    healthcheck: {test: [CMD, "true"]}
  relay:
    image: relay
    ports: ["3478:3478/udp", "${RELAY:-50000-50003}:50000-50003/udp"]
    healthcheck: {test: [CMD, "true"]}
  tool: {image: busybox, profiles: [debug]}
volumes:
  cache:
  dbdata: {driver: local, driver_opts: {type: none, o: bind, device: "${DATA_DIR}"}}
  fixed: {name: "shop_fixed"}
  old: {external: true, name: shop_old}
  unused:
networks:
  front: {name: myfront, internal: true, ipam: {config: [{subnet: 10.5.0.0/24}]}}
  back: {driver_opts: {com.docker.network.bridge.name: br0, mtu: "1400"}}
  edge: {external: true, name: traefik}
secrets:
  pw: {file: ./secrets/pw}
  fromenv: {environment: SECRET}
configs:
  conf: {content: "hello ${SECRET}"}
"""
COMMON = """
services:
  basis:
    build: ../worker
    environment: [A=1, "SECRET=${SECRET}", PASSED]
    volumes: [./lib.conf:/lib.conf:ro]
"""
FILES = {"lib/common.yml": COMMON, "nginx.conf": "", "lib/lib.conf": "", "app.env": "A=1"}
DECLARED = {
    "api": ComposeService(mode=ServiceMode.SLOTTED),
    "worker": ComposeService(mode=ServiceMode.SLOTTED, ready_after_s=2),
    "turn": ComposeService(mode=ServiceMode.SHARED),
    "relay": ComposeService(mode=ServiceMode.SHARED, publish=True),
}
