// Publishes one record with Apache's own Java client: `java -cp JARS Publish.java BOOTSTRAP TOPIC KEY VALUE NAME=TEXT...`
import java.util.Properties;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;

public class Publish {
    public static void main(String[] arguments) throws Exception {
        Properties settings = new Properties();
        settings.put("bootstrap.servers", arguments[0]);
        settings.put("acks", "all");
        String serializer = "org.apache.kafka.common.serialization.StringSerializer";
        settings.put("key.serializer", serializer);
        settings.put("value.serializer", serializer);
        ProducerRecord<String, String> record = new ProducerRecord<>(arguments[1], arguments[2], arguments[3]);
        for (int at = 4; at < arguments.length; at++) {
            String[] header = arguments[at].split("=", 2);
            record.headers().add(header[0], header[1].getBytes("UTF-8"));
        }
        try (KafkaProducer<String, String> producer = new KafkaProducer<>(settings)) {
            System.out.println(producer.send(record).get());
        }
    }
}
