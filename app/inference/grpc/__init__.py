"""The gRPC face of the Open Inference Protocol V2. Imported only where a port for it is asked for."""
