# rrqd as a base image: put your application on top.
#
#     FROM rrqd
#     COPY . /app
#     USER root
#     RUN pip install --no-cache-dir /app
#     USER rrqd
#
# The application is root's and rrqd can't change it. The daemon reads /app/rrq.toml, and finds modules beside it.
#
# It may be PID 1 without an init: the master hears TERM and reaps whatever a job leaves behind.
# Stop it with `docker stop -t 60`: longer than rrqd.stop_timeout_seconds, which is 25.
# Examples: deploy/compose.yaml, deploy/kubernetes.yaml.

ARG PYTHON=3.13

FROM python:${PYTHON}-slim AS build
WORKDIR /src
COPY pyproject.toml README.md ./
COPY rrqd ./rrqd
RUN pip install --no-cache-dir --prefix=/installed .

FROM python:${PYTHON}-slim
RUN useradd --system --uid 10001 --user-group --create-home --home-dir /home/rrqd --shell /usr/sbin/nologin rrqd \
 && install -d -o rrqd -g rrqd -m 0700 /var/lib/rrqd \
 && install -d /app
COPY --from=build /installed /usr/local

# RRQ_CONFIG: the file, for the daemon as for the health check and for `docker exec … rrqd status`.
ENV PYTHONUNBUFFERED=1 \
    STATE_DIRECTORY=/var/lib/rrqd \
    RRQ_CONFIG=/app/rrq.toml
VOLUME /var/lib/rrqd
WORKDIR /app
# By number: Kubernetes' runAsNonRoot can't tell what a name means.
USER 10001:10001

# 9464: metrics, health. Inside a container it must listen on all addresses to be reached:
# set rrqd.http = "0.0.0.0:9464" in your file.
EXPOSE 9464
STOPSIGNAL SIGTERM
# Whether the daemon should be restarted, asked at the address that the file names.
HEALTHCHECK --interval=15s --timeout=5s --start-period=60s --retries=4 \
  CMD ["python", "-m", "rrqd.web.probe", "livez"]

# Commands come after it: `docker run IMAGE config check`. Without one, the daemon.
ENTRYPOINT ["rrqd"]
CMD []
