//! HTTP API, agent gRPC and xDS; executes what control decides
